# Draws of the published code of Jolani (2025), mlmi-binomial.R unchanged (github.com/shahabjolani/mlmi-categorical, not
# part of this repository), on the tables of jolani_tables.py. What it draws is read off the functions that it calls:
# runif (tries), prod (ratios), rbinom (linear predictors of the missing rows).
# python jolani_tables.py FOLDER; Rscript jolani.R mlmi-binomial.R FOLDER DRAWS > jolani.json
arguments <- commandArgs(TRUE)
source(arguments[1])
tries <- 0; ratios <- numeric(); last <- NA; predictors <- list()
runif <- function(n) { tries <<- tries + 1; stats::runif(n) }
prod <- function(x) { last <<- base::prod(x); last }
rbinom <- function(n, size, prob) {
  predictors[[length(predictors) + 1]] <<- c(qlogis(prob), tries, last)
  tries <<- 0
  stats::rbinom(n, size, prob)
}
cat(sprintf('{"versions": "%s, lme4 %s"', R.version.string, packageVersion("lme4")))
numbers <- function(v) paste(sprintf("%.6g", v), collapse = ", ")
for (file in list.files(arguments[2], pattern = "csv$")) {
  parts <- strsplit(sub(".csv", "", file, fixed = TRUE), "-")[[1]]
  d <- read.csv(file.path(arguments[2], file))
  x <- as.matrix(d[, c("g", "x")])
  set.seed(1)
  predictors <- list()
  for (k in 1:as.integer(arguments[3]))
    suppressWarnings(mice.impute.2l.glmer.binomial(d$y, d$observed == 1, x, c(g = -2, x = if (parts[2] == "1") 2 else 1)))
  o <- do.call(rbind, predictors)
  g <- factor(rep(unique(d$g), length.out = nrow(o)))
  accepted <- o[, 4] >= 0 & o[, 3] < 250
  cat(sprintf(',\n"%s": {"draws": %s, "unconditional": %.6g, "above_1": %.6g', parts[1], arguments[3],
              mean(o[, 3] == 250), mean(o[accepted, 4] > 1)))
  for (side in 1:2) {
    e <- split(o[, side], g)
    cat(sprintf(',\n"mean_%d": [%s], "sd_%d": [%s], "q25_%d": [%s], "q75_%d": [%s]', side, numbers(sapply(e, mean)),
                side, numbers(sapply(e, sd)), side, numbers(sapply(e, quantile, 0.25)),
                side, numbers(sapply(e, quantile, 0.75))))
  }
  cat(sprintf(',\n"log_tries": [%s]}', numbers(tapply(log(o[, 3]), g, mean))))
}
cat("\n}\n")
