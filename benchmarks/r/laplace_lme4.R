# Rscript laplace_lme4.R TABLE FAMILY REPEATS: processor time of one glmer call (best), and its log-likelihood
suppressMessages(library(lme4))
args <- commandArgs(TRUE)
d <- read.csv(args[1])
family <- if (args[2] == "poisson") poisson else binomial
best <- Inf
for (k in seq_len(as.integer(args[3]))) {
  t <- system.time(fit <- suppressWarnings(glmer(y ~ x + w + (1 + x | g), d, family = family)))
  best <- min(best, t[["user.self"]] + t[["sys.self"]])
}
cat(sprintf('{"seconds": %.6f, "loglik": %.9f, "lme4": "%s"}\n', best, as.numeric(logLik(fit)), packageVersion("lme4")))
