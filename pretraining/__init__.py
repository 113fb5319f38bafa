"""Makes the small pretrained parts that AR-LDM starts from: `assets/cartoon-base`, or anyone's."""

import common  # noqa: F401  Ctrl-C while libraries load is one line
