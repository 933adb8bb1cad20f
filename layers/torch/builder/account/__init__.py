"""Where each byte of a layer goes, as data, text, picture and zip file."""
