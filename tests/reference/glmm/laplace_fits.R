# Laplace fits of the tables of tables.py by lme4: the better of two optimisers, as JSON lines.
# Rscript laplace_fits.R FOLDER > laplace_fits.json
suppressMessages(library(lme4))
folder <- commandArgs(TRUE)[1]
options(digits = 12)
cat("[\n")
cat(sprintf('{"versions": "%s, lme4 %s"}', R.version.string, packageVersion("lme4")))
for (file in list.files(folder, pattern = "csv$")) {
  parts <- strsplit(sub(".csv", "", file, fixed = TRUE), "-")[[1]]
  d <- read.csv(file.path(folder, file))
  formula <- if (parts[3] == "1") cbind(y, trials - y) ~ x + w + (1 + x | g) else cbind(y, trials - y) ~ x + w + (1 | g)
  if (parts[2] == "poisson") formula <- update(formula, y ~ .)
  best <- NULL
  for (optimizer in c("bobyqa", "Nelder_Mead")) {
    control <- glmerControl(optimizer = optimizer, calc.derivs = FALSE, check.conv.singular = "ignore",
                            optCtrl = list(maxfun = 20000), tolPwrss = 1e-10)
    fit <- tryCatch(suppressWarnings(suppressMessages(
      glmer(formula, d, family = if (parts[2] == "poisson") poisson else binomial, control = control))),
      error = function(e) NULL)
    if (!is.null(fit) && (is.null(best) || logLik(fit) > logLik(best))) best <- fit
  }
  if (is.null(best)) { cat(sprintf(',\n{"table": %d}', as.integer(parts[1]))); next }
  S <- VarCorr(best)$g
  numbers <- function(v) paste(sprintf("%.9g", v), collapse = ", ")
  cat(sprintf(',\n{"table": %d, "loglik": %.9f, "beta": [%s], "Psi": [%s]}', as.integer(parts[1]),
              as.numeric(logLik(best)), numbers(fixef(best)), numbers(S[lower.tri(S, diag = TRUE)])))
}
cat("\n]\n")
