"""The story diffusion model: parts, conditioning, training, sampling. Imports no other room."""

import logging

# It is loaded by others, and tells at every start of a kernel that nothing here needs.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
