# One chain of jomo.glmer or jomo.lmer.   Rscript jomo_analysis.R data.csv iterations seed chain.csv
#
# data.csv: study, y (0 or 1: jomo.glmer, probit; other numbers: jomo.lmer), x1 (0 or 1, or numbers), x2 (numbers); empty =
# missing. Analysis y ~ x1 + x2 + (1 + x1 | study), default priors. Prints one JSON line with the processor time of the call
# alone. chain.csv: one row for each iteration, columns the coefficients and the covariance of effects of the analysis.
suppressMessages({library(jomo); library(jsonlite)})
arg <- commandArgs(TRUE)
d <- read.csv(arg[1], na.strings = "")[, c("study", "y", "x1", "x2")]
binary <- function(v) all(v %in% c(0, 1, NA))
kind <- if (binary(d$y)) "glmer" else "lmer"
for (name in c("y", "x1")) if (binary(d[[name]])) d[[name]] <- factor(d[[name]])
chain <- if (kind == "glmer") jomo.glmer.MCMCchain else jomo.lmer.MCMCchain
set.seed(as.integer(arg[3]))
log <- capture.output(time <- system.time(
  f <- chain(y ~ x1 + x2 + (1 + x1 | study), data = d, nburn = as.integer(arg[2]), output = 0)))
columns <- c(lapply(1:3, function(k) f$collectbetaY[1, k, ]),
             list(f$collectcovuY[1, 1, ], f$collectcovuY[1, 2, ], f$collectcovuY[2, 2, ]))
write.csv(as.data.frame(columns, col.names = seq_along(columns)), arg[4], row.names = FALSE)
cat(toJSON(list(version = as.character(packageVersion("jomo")), cpu_seconds = time[["user.self"]] + time[["sys.self"]]),
           auto_unbox = TRUE, digits = 8), "\n")
