"""The story diffusion model: parts, conditioning, training, sampling. Imports no other room."""
