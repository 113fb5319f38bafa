"""Makes the small pretrained parts that AR-LDM starts from: `assets/cartoon-base`, or anyone's."""
