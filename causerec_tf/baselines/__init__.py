"""Rules and linear models without training steps, to be laid beside a model."""
