# One jomo chain.   Rscript jomo_chain.R data.csv iterations seed chain.csv [common | random]
#
# data.csv: cluster, y (a number), b (0 or 1), c (levels, the first of them the reference); empty = missing. X = Z = 1,
# jomo's default priors. Prints one JSON line with the processor time of the call to jomo.MCMCchain() alone.
# chain.csv: one row for each iteration, columns beta, Sigma (what is not fixed; with random residual covariances their
# mean over clusters), Psi.
suppressMessages({library(jomo); library(jsonlite)})
arg <- commandArgs(TRUE)
iterations <- as.integer(arg[2])
d <- read.csv(arg[1], na.strings = "")
Y <- data.frame(y = d$y, b = factor(d$b, levels = c(1, 0)), c = factor(d$c, levels = c("q", "r", "p")))
set.seed(as.integer(arg[3]))
meth <- if (length(arg) > 4) arg[5] else "common"
log <- capture.output(time <- system.time(
  f <- jomo.MCMCchain(Y, clus = d$cluster, nburn = iterations, output = 0, meth = meth)))
up <- which(upper.tri(diag(4), TRUE), arr.ind = TRUE)
columns <- c(lapply(1:4, function(k) f$collectbeta[1, k, ]),
             lapply(seq_len(nrow(up)), function(i) {
               own <- seq(up[i, 1], dim(f$collectomega)[1], by = 4)
               colMeans(matrix(f$collectomega[own, up[i, 2], ], nrow = length(own)))
             }),
             lapply(seq_len(nrow(up)), function(i) f$collectcovu[up[i, 1], up[i, 2], ]))
columns <- columns[sapply(columns, sd) > 1e-12]
write.csv(as.data.frame(columns, col.names = seq_along(columns)), arg[4], row.names = FALSE)
cat(toJSON(list(version = as.character(packageVersion("jomo")), cpu_seconds = time[["user.self"]] + time[["sys.self"]],
                iterations = iterations), auto_unbox = TRUE, digits = 8), "\n")
