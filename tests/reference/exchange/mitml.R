# Rscript mitml.R LONG.csv OUT.csv: a long table of ours through mice and mitml: analysed and pooled there.
library(mitml)
files <- commandArgs(TRUE)
long <- read.csv(files[1], na.strings = "", check.names = FALSE, fileEncoding = "UTF-8")
tables <- mids2mitml.list(mice::as.mids(long))
stopifnot(inherits(tables, "mitml.list"))
found <- testEstimates(with(tables, lm(y ~ z + sex)))$estimates
write.csv(data.frame(term = rownames(found), found, check.names = FALSE), files[2], row.names = FALSE)
