# FCS by mice.   Rscript fcs_mice.R data.csv 2l.pan|2l.lmer m cycles seed [paniter]
#
# data.csv: columns `cluster`, `x...` (complete), `y...` (empty = missing). Every y on all other columns, random intercept.
# 2l.pan: its defaults, except paniter (500), the Gibbs iterations of one call; every call starts again.
# Prints one JSON line; `seconds` is the elapsed time of mice() alone: no start-up, reading, writing or analysis.
suppressMessages({library(mice); library(pan); library(lme4); library(jsonlite)})
arg <- commandArgs(TRUE)
method <- arg[2]; m <- as.integer(arg[3]); cycles <- as.integer(arg[4]); seed <- as.integer(arg[5])
d <- read.csv(arg[1]); ys <- grep("^y", names(d), value = TRUE)
P <- matrix(0, ncol(d), ncol(d), dimnames = list(names(d), names(d)))
P[ys, ] <- 1; P[ys, "cluster"] <- -2; diag(P) <- 0
call <- list(d, m = m, maxit = cycles, method = setNames(ifelse(names(d) %in% ys, method, ""), names(d)),
             predictorMatrix = P, seed = seed, printFlag = FALSE)
if (method == "2l.pan") call$paniter <- if (length(arg) >= 6) as.integer(arg[6]) else 500L
warned <- 0                                        # lmer's singular fits
time <- system.time(f <- withCallingHandlers(do.call(mice, call),
  warning = function(w) { warned <<- warned + 1; invokeRestart("muffleWarning") },
  message = function(w) { warned <<- warned + 1; invokeRestart("muffleMessage") }))
cat(toJSON(list(engine = paste("mice", method), versions = lapply(c(mice = "mice", pan = "pan", lme4 = "lme4"),
  function(k) as.character(packageVersion(k))), R = R.version.string, rows = nrow(d), m = m, cycles = cycles,
  paniter = call$paniter, variables = length(ys), warnings_or_messages = warned, seconds = time[["elapsed"]],
  cpu_seconds = time[["user.self"]] + time[["sys.self"]]), auto_unbox = TRUE, digits = 8, null = "null"), "\n")
