"""The language model: a compact Llama, its named sizes, and the parameters every founder starts from."""
