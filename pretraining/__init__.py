"""Makes `assets/cartoon-base/`: the pretrained parts the tiny AR-LDM starts from."""
