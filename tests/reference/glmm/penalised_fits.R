# Penalised fits (nAGQ = 0, all else as it comes) of the tables of penalised_tables.py by lme4, as JSON lines; where lme4
# stops with an error, its message.
# python penalised_tables.py FOLDER; Rscript penalised_fits.R FOLDER > penalised_fits.json
suppressMessages(library(lme4))
folder <- commandArgs(TRUE)[1]
cat("[\n")
cat(sprintf('{"versions": "%s, lme4 %s"}', R.version.string, packageVersion("lme4")))
numbers <- function(v) paste(sprintf("%.9g", v), collapse = ", ")
for (file in list.files(folder, pattern = "csv$")) {
  parts <- strsplit(sub(".csv", "", file, fixed = TRUE), "-")[[1]]
  d <- read.csv(file.path(folder, file))
  left <- if (parts[3] == "poisson" || all(d$trials == 1)) "y" else "cbind(y, trials - y)"
  formula <- as.formula(paste(left, "~ x + w +", if (parts[4] == "1") "(1 + x | g)" else "(1 | g)"))
  said <- character()
  fit <- withCallingHandlers(
    tryCatch(glmer(formula, d, family = if (parts[3] == "poisson") poisson else binomial, nAGQ = 0),
             error = function(e) e),
    warning = function(c) { said <<- c(said, conditionMessage(c)); invokeRestart("muffleWarning") },
    message = function(c) { said <<- c(said, conditionMessage(c)); invokeRestart("muffleMessage") })
  cat(sprintf(',\n{"table": "%s-%s", ', parts[1], parts[2]))
  if (inherits(fit, "error")) {
    cat(sprintf('"error": "%s"}', conditionMessage(fit)))
    next
  }
  cat(sprintf('"dropped": %d, "theta": [%s], "beta": [%s], "se": [%s], "loglik": %.10g}',
              sum(grepl("rank deficient", said)), numbers(getME(fit, "theta")), numbers(fixef(fit)),
              numbers(sqrt(diag(chol2inv(getME(fit, "RX"))))), as.numeric(logLik(fit))))
}
cat("\n]\n")
