# Rscript as_mids.R LONG.csv OUT.csv: mids from a long table of ours, and its completed tables, as mice has them.
library(mice)
files <- commandArgs(TRUE)
long <- read.csv(files[1], na.strings = "", check.names = FALSE)
for (name in c("grade", "kind", "sex")) long[[name]] <- factor(long[[name]])
mids <- as.mids(long)
stopifnot(is.mids(mids))
write.csv(complete(mids, "long"), files[2], row.names = FALSE, na = "")
