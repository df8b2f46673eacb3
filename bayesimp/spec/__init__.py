"""What the user declares: formulas, priors, plans. Data that can be printed, no numbers are computed here."""
