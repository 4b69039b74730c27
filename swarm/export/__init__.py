"""Between a run and Hugging Face's world: checkpoints out as `transformers` loads them, Llamas in as a run's start."""
