"""Makes the files of a release from a GGUF file or a Hugging Face folder of the llama family. None of it is in the function."""
