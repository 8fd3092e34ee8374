"""The software of one Thox device: it serves language models and takes part in a stack."""
