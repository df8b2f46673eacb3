# One pan chain.   Rscript pan_chain.R data.csv iterations seed [chain.csv] [q]
#
# data.csv: rows grouped by `cluster`; predictors x... (complete), variables y... (empty = missing).
# X = [1, x...], Z = its first q columns (default 1); pan's usual prior a = r, Binv = I, c = r q, Dinv = I.
# Prints one JSON line. `seconds` is the elapsed time of the call to pan() alone: no start-up, reading or writing;
# `cpu_seconds` its processor time, which a busy machine disturbs less.
# chain.csv: one row for each iteration, columns beta[l,k], Sigma[k,k'], Psi[s,t] (zero-based, s = k q + l).
suppressMessages({library(pan); library(jsonlite)})
arg <- commandArgs(TRUE)
iterations <- as.integer(arg[2]); seed <- as.integer(arg[3])
q <- if (length(arg) >= 5) as.integer(arg[5]) else 1L
d <- read.csv(arg[1]); d <- d[order(d$cluster), ]
Y <- as.matrix(d[, grep("^y", names(d)), drop = FALSE])
X <- as.matrix(cbind(rep(1, nrow(d)), d[, grep("^x", names(d)), drop = FALSE]))
subj <- match(d$cluster, unique(d$cluster)); r <- ncol(Y); p <- ncol(X)
prior <- list(a = r, Binv = diag(r), c = r * q, Dinv = diag(r * q))
time <- system.time(f <- pan(Y, subj, X, 1:p, 1:q, prior, seed = seed, iter = iterations))
elapsed <- time[["elapsed"]]
if (length(arg) >= 4 && nzchar(arg[4])) {
  up <- function(d) which(upper.tri(diag(d), TRUE), arr.ind = TRUE) - 1
  S <- up(r); P <- up(r * q)
  chain <- t(rbind(matrix(f$beta, ncol = iterations), matrix(f$sigma, ncol = iterations)[upper.tri(diag(r), TRUE), , drop = FALSE],
                   matrix(f$psi, ncol = iterations)[upper.tri(diag(r * q), TRUE), , drop = FALSE]))
  colnames(chain) <- c(sprintf("beta[%d,%d]", rep(1:p, r) - 1, rep(1:r, each = p) - 1), sprintf("Sigma[%d,%d]", S[, 1], S[, 2]),
                       sprintf("Psi[%d,%d]", P[, 1], P[, 2]))
  write.csv(chain, arg[4], row.names = FALSE)
}
cat(toJSON(list(engine = "pan", version = as.character(packageVersion("pan")), R = R.version.string, rows = nrow(Y),
                clusters = max(subj), r = r, q = q, p = p, missing = mean(is.na(Y)), iterations = iterations,
                seconds = elapsed, cpu_seconds = time[["user.self"]] + time[["sys.self"]], seconds_per_iteration = elapsed / iterations), auto_unbox = TRUE, digits = 8), "\n")
