# Fits of simulated tables by lme4, frozen in lme4_fits.json. Run in this folder: Rscript lme4_fits.R
# The tables (lme4_*.csv) are simulated here; g is 1..m, y = x1 + x2 with random intercept and slope.
suppressMessages({library(lme4); library(jsonlite)})
simulate_table <- function(seed, sizes, sd0, sd1, rho = 0.3) {
  set.seed(seed)
  g <- rep(seq_along(sizes), sizes); n <- length(g); m <- length(sizes)
  z <- matrix(rnorm(2 * m), m)
  b0 <- sd0 * z[, 1]; b1 <- sd1 * (rho * z[, 1] + sqrt(1 - rho^2) * z[, 2])
  x1 <- rnorm(n, 0.2 * (g %% 3)); x2 <- runif(n)
  y <- 1 + 0.5 * x1 - 0.3 * x2 + b0[g] + b1[g] * x1 + rnorm(n)
  d <- data.frame(g = g, x1 = round(x1, 4), x2 = round(x2, 4), y = round(y, 4))
  d[sample(n), ]
}
tables <- list(
  lme4_balanced   = simulate_table(1, rep(12, 20), 0.8, 0.4),
  lme4_singletons = simulate_table(2, c(1, 1, 1, 1, 2, 2, 3, 5, 8, 13, 21, 34), 0.8, 0.5),
  lme4_no_slope   = simulate_table(3, rep(c(6, 10), 8), 0.6, 0.0),
  lme4_none       = simulate_table(12, rep(9, 12), 0.0, 0.0))
forms <- list(intercept = y ~ x1 + x2 + (1 | g), slope = y ~ x1 + x2 + (1 + x1 | g),
              independent = y ~ x1 + x2 + (1 + x1 || g))
out <- list()
for (data in names(tables)) {
  d <- tables[[data]]
  write.csv(d, paste0(data, ".csv"), row.names = FALSE, quote = FALSE)
  for (form in names(forms)) for (reml in c(TRUE, FALSE)) {
    q <- if (form == "intercept") 1 else 2
    fits <- lapply(c("nloptwrap", "bobyqa", "Nelder_Mead"), function(o) suppressMessages(suppressWarnings(
      lmer(forms[[form]], d, REML = reml, control = lmerControl(optimizer = o)))))
    f <- fits[[which.max(sapply(fits, logLik))]]
    Psi <- if (form == "independent") diag(unlist(lapply(VarCorr(f), function(v) v[1, 1])), q)
           else matrix(VarCorr(f)[[1]], q)
    case <- list(data = data, q = q, reml = reml, beta = unname(fixef(f)), Psi = c(Psi), sigma = sigma(f),
      se = unname(sqrt(diag(as.matrix(vcov(f))))), loglik = as.numeric(logLik(f)), singular = isSingular(f),
      modes = unname(as.matrix(ranef(f)$g)))
    if (form == "independent") case$blocks <- c(0, 1)
    out[[paste(data, form, if (reml) "REML" else "ML")]] <- case
  }
}
out$session <- list(R = R.version.string, lme4 = as.character(packageVersion("lme4")),
                    note = "best of nloptwrap, bobyqa, Nelder_Mead by log-likelihood")
write_json(out, "lme4_fits.json", auto_unbox = TRUE, digits = 12)
