"""`make audit`: what checkov says of the template and detect-secrets of the files, held against what is explained."""
