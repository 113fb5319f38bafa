"""What every room may use; imports none of them."""

import common.interrupts  # noqa: F401  in every program Ctrl-C is one line
