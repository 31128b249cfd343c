"""The subcommands of `biglittle`, a module each, with `add_arguments` and `run`; `cli.py` lists them."""
