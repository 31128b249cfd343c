"""The subcommands of `biglittle`, one module per command, with `add_arguments` and `run`; `cli.py` lists them."""
