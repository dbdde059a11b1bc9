"""The declared ranges of versions, each end of them and some between, on one program."""
