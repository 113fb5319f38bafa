"""What every room may use; imports none of them."""

import logging

import common.interrupts  # noqa: F401  in every program Ctrl-C is one line

# It is loaded by others, and tells at every start of a kernel that nothing here needs.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
