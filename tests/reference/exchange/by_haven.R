# Rscript by_haven.R FILE OUT.csv [COLUMN ...]: what haven reads from a .dta or .sav file: numbers, texts, dates; and for each
# labelled column its labels, in further columns NAME..label.
library(haven)
given <- commandArgs(TRUE)
table <- if (endsWith(given[1], ".dta")) read_dta(given[1]) else read_sav(given[1])
out <- data.frame(row.names = seq_len(nrow(table)))
for (name in names(table)) {
  column <- table[[name]]
  out[[name]] <- if (inherits(column, "POSIXct")) format(column, "%Y-%m-%d %H:%M:%OS3", tz = "UTC") else as.vector(column)
  if (inherits(column, "haven_labelled")) out[[paste0(name, "..label")]] <- as.character(as_factor(column))
}
write.csv(out, given[2], row.names = FALSE, na = "", fileEncoding = "UTF-8")
