"""The keys that each task's recipes read."""

from collections.abc import Mapping, Set

SPEECH_KEYS = frozenset(
    """
    seed output_folder save_folder train_log data_folder skip_prep corpus_options skip_test cache_audio
    number_of_epochs batch_size sorting dynamic_batching max_batch_length num_buckets average_checkpoints
    train_dataloader_opts valid_dataloader_opts
    sample_rate token_type vocab_size output_neurons
    compute_features normalize wav_augment fea_augment modules encoder model
    opt_class lr_annealing checkpointer epoch_counter train_logger tensorboard_logger
    """.split()
)
"""Keys that all speech recognition recipes read. A YAML file may have others only where it refers to them itself."""


CTC_KEYS = SPEECH_KEYS | {"consistency_weight", "decoding"}
"""Keys that CTC recipes read."""


ATTENTION_KEYS = SPEECH_KEYS | frozenset(
    "ctc_weight label_smoothing valid_beam_size test_beam_size ctc_decoding_weight search_options".split()
)
"""Keys that recipes of attention models read."""


TRANSDUCER_KEYS = SPEECH_KEYS | {"valid_beam_size", "test_beam_size"}
"""Keys that recipes of transducers read."""


HYBRID_KEYS = frozenset(
    """
    seed output_folder save_folder data_folder skip_prep corpus_options skip_test cache_audio
    lexicon language_model kaldi states_per_phone silence_states iterations tied_states min_frames balance
    lm_weights search_options mmi_lm_weight mmi_ce_weight
    batch_size sorting dynamic_batching max_batch_length num_buckets average_checkpoints
    train_dataloader_opts valid_dataloader_opts
    sample_rate compute_features normalize wav_augment fea_augment modules encoder model opt_class lr_annealing
    """.split()
)
"""Keys that hybrid recipes read."""


IMAGE_KEYS = frozenset(
    """
    seed output_folder save_folder train_log data_folder classes images_per_class skip_bad
    number_of_epochs batch_size train_dataloader_opts valid_dataloader_opts
    resize crop train_transform val_transform label_smoothing
    model sparsity channels_last ema_decay decay_vectors
    opt_class lr_annealing checkpointer epoch_counter train_logger tensorboard_logger
    """.split()
)
"""Keys that image recipes read."""


EXPLAINED: Mapping[Set[str], str] = {
    CTC_KEYS: "hparams/AN4/ctc_bl_resnet22.yaml",
    ATTENTION_KEYS: "hparams/LibriSpeech/attention_bl_resnet22.yaml",
    TRANSDUCER_KEYS: "hparams/LibriSpeech/transducer_bl_resnet22.yaml",
    HYBRID_KEYS: "hparams/AN4/hybrid_bl_resnet22.yaml",
    IMAGE_KEYS: "hparams/ImageNet/authors_bl_resnet50.yaml",
}
"""A file that explains the keys."""


OPTIONAL_KEYS = frozenset({"init_from", "profile", "sparsity", "splits"})
"""Keys that the recipes read where a YAML file or the command line has them."""


RETIRED_KEYS = frozenset({"test_dataloader_opts"})
"""Keys that recipes once read. Older YAML files may still have them; a warning says that nothing reads them."""


SPEECH_ONLY = frozenset({"init_from", "splits"})
"""Those of them that image recipes do not read."""
