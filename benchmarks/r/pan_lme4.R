# What pan / mitml users do: m imputations from one pan chain, lmer on each, Rubin's rules.
#   Rscript pan_lme4.R data.csv setting seed [m] [estimates.csv]
#
# setting: "economical" (burn-in 500, 50 between), "mitml" (5000, 100: the defaults of mitml::panImpute) or "B,T".
# data.csv and model as in pan_chain.R with q = 1. Analysis: y1 ~ the other y's and x's + (1 | cluster), by REML.
# Prints one JSON line with the parts of the elapsed time in seconds: burn_in, imputations (pan), lmer, pooling;
# `cpu_seconds`: processor time of the whole.
suppressMessages({library(pan); library(lme4); library(mitml); library(jsonlite)})
arg <- commandArgs(TRUE)
setting <- switch(arg[2], economical = c(500L, 50L), mitml = c(5000L, 100L), as.integer(strsplit(arg[2], ",")[[1]]))
seed <- as.integer(arg[3]); m <- if (length(arg) >= 4) as.integer(arg[4]) else 60L
d <- read.csv(arg[1]); d <- d[order(d$cluster), ]
ys <- grep("^y", names(d), value = TRUE); xs <- grep("^x", names(d), value = TRUE)
Y <- as.matrix(d[, ys, drop = FALSE]); X <- as.matrix(cbind(rep(1, nrow(d)), d[, xs, drop = FALSE]))
subj <- match(d$cluster, unique(d$cluster)); r <- ncol(Y); p <- ncol(X)
prior <- list(a = r, Binv = diag(r), c = r, Dinv = diag(r))
set.seed(seed); seeds <- sample.int(2^31 - 2, m + 1)
cpu <- 0
clock <- function(expr) { t <- system.time(expr); cpu <<- cpu + t[["user.self"]] + t[["sys.self"]]; t[["elapsed"]] }
t_burn <- clock(f <- pan(Y, subj, X, 1:p, 1, prior, seed = seeds[m + 1], iter = setting[1]))
completed <- vector("list", m)
t_imp <- clock(for (i in 1:m) {
  f <- pan(Y, subj, X, 1:p, 1, prior, seed = seeds[i], iter = setting[2], start = f$last)
  one <- d; one[ys] <- as.data.frame(matrix(f$y, ncol = r)); completed[[i]] <- one
})
formula <- as.formula(paste("y1 ~", paste(c("1", setdiff(ys, "y1"), xs), collapse = " + "), "+ (1 | cluster)"))
fits <- vector("list", m); warned <- 0
t_lmer <- clock(for (i in 1:m) fits[[i]] <- withCallingHandlers(lmer(formula, completed[[i]]),
  warning = function(w) { warned <<- warned + 1; invokeRestart("muffleWarning") },
  message = function(w) { warned <<- warned + 1; invokeRestart("muffleMessage") }))
t_pool <- clock(pooled <- testEstimates(fits, extra.pars = TRUE))
est <- pooled$estimates
if (length(arg) >= 5) write.csv(est, arg[5])
cat(toJSON(list(engine = "pan + lme4 + mitml", versions = lapply(c(pan = "pan", lme4 = "lme4", mitml = "mitml"),
  function(k) as.character(packageVersion(k))), R = R.version.string, rows = nrow(Y), clusters = max(subj), r = r,
  m = m, burn_in = setting[1], between = setting[2], lmer_warnings_or_messages = warned,
  seconds = list(burn_in = t_burn, imputations = t_imp, lmer = t_lmer, pooling = t_pool,
                 total = t_burn + t_imp + t_lmer + t_pool), cpu_seconds = cpu,
  estimates = sapply(rownames(est), function(v) list(estimate = est[v, "Estimate"], std_error = est[v, "Std.Error"]), simplify = FALSE),
  variances = as.list(pooled$extra.pars[, 1])), auto_unbox = TRUE, digits = 8), "\n")
