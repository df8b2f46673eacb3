# Random-effects meta-analyses by metafor. Run in this folder: Rscript meta.R    Writes meta.json.
suppressMessages({library(metafor); library(jsonlite)})
set.seed(4)
cases <- lapply(1:6, function(k) {
  S <- c(3, 5, 9, 20, 9, 6)[k]; tau <- c(0.5, 0, 0.4, 0.2, 0.05, 1)[k]
  v <- round(runif(S, 0.01, 0.3), 4); y <- round(0.5 + tau * rnorm(S) + sqrt(v) * rnorm(S), 4)
  f <- rma(y, v, method = "REML", control = list(threshold = 1e-10, maxiter = 1000)); d <- rma(y, v, method = "DL")
  ci <- confint(f)$random; hk <- rma(y, v, method = "REML", test = "knha", control = list(threshold = 1e-10, maxiter = 1000))
  list(y = y, v = v, tau2 = f$tau2, tau2_low = ci["tau^2", "ci.lb"], tau2_high = ci["tau^2", "ci.ub"], Q = f$QE, Q_p = f$QEp,
       tau2_dl = d$tau2, estimate = c(f$b), se = f$se, se_hk = hk$se, low_hk = hk$ci.lb, high_hk = hk$ci.ub)
})
write_json(list(cases = cases, session = list(R = R.version.string, metafor = as.character(packageVersion("metafor")))),
           "meta.json", auto_unbox = TRUE, digits = 10)
