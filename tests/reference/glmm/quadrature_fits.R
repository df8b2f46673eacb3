# Fits of the tables of quadrature_tables.py by lme4, nAGQ = 1 and 20, as JSON lines: the better of two optimisers.
# Rscript quadrature_fits.R FOLDER > quadrature_fits.json
suppressMessages(library(lme4))
folder <- commandArgs(TRUE)[1]
numbers <- function(v) paste(sprintf("%.9g", v), collapse = ", ")
cat("[\n")
cat(sprintf('{"versions": "%s, lme4 %s"}', R.version.string, packageVersion("lme4")))
for (file in list.files(folder, pattern = "csv$")) {
  d <- read.csv(file.path(folder, file))
  words <- readLines(file.path(folder, sub("csv", "txt", file)))
  family <- switch(words[1], poisson = poisson, probit = binomial(link = "probit"), binomial)
  for (nodes in c(1, 20)) {
    best <- NULL
    for (optimizer in c("bobyqa", "Nelder_Mead")) {
      control <- glmerControl(optimizer = optimizer, check.conv.singular = "ignore", optCtrl = list(maxfun = 50000),
                              tolPwrss = 1e-12)
      fit <- tryCatch(suppressWarnings(suppressMessages(
        glmer(as.formula(words[2]), d, family = family, nAGQ = nodes, control = control))), error = function(e) NULL)
      if (!is.null(fit) && (is.null(best) || logLik(fit) > logLik(best))) best <- fit
    }
    if (is.null(best)) { cat(sprintf(',\n{"table": %d, "nodes": %d}', as.integer(sub(".csv", "", file)), nodes)); next }
    se <- suppressWarnings(sqrt(diag(as.matrix(vcov(best)))))
    cat(sprintf(',\n{"table": %d, "nodes": %d, "loglik": %.9f, "beta": [%s], "sd": %.9g, "se": [%s]}',
                as.integer(sub(".csv", "", file)), nodes, as.numeric(logLik(best)), numbers(fixef(best)),
                attr(VarCorr(best)$g, "stddev"), numbers(se)))
  }
}
cat("\n]\n")
