# Cumulative logit models of simulated tables by the R package ordinal: Rscript ordinal_fits.R, in this folder.
# Writes ordinal_tables.csv (simulated here) and ordinal_fits.json: coefficients, covariances, log-likelihoods, and
# predicted probabilities by clm. Only its output is kept; nothing of the package (GPL) is copied.
suppressMessages({library(ordinal); library(jsonlite)})
set.seed(163)
G <- 30; g <- rep(1:G, times = sample(5:14, G, TRUE)); n <- length(g)
M <- 3
x <- round(rnorm(n, 3, 2), 4); arm <- ifelse(g %% 2 == 0, "a", "b"); w <- sample(1:3, n, TRUE)
u <- rnorm(G, sd = 0.9); v <- rnorm(G, sd = 0.5)
eta <- 0.5 * (x - 3) - 0.7 * (arm == "b") + u[g] + v[g] * (x - 3)
rating <- cut(eta + rlogis(n), c(-Inf, -1.5, 0.2, 1.6, Inf), labels = c("none", "mild", "moderate", "severe"))
hole <- runif(n) < 0.2
tables <- lapply(1:M, function(k) data.frame(k = k, g = g, arm = arm, w = w,
  x = ifelse(hole, round(x + rnorm(n), 4), x), rating = rating))
write.csv(do.call(rbind, tables), "ordinal_tables.csv", row.names = FALSE, quote = FALSE)
ctrl <- clmm.control(gradTol = 1e-6, maxIter = 200)
one <- function(form, d, nAGQ = 1, weights = NULL) {
  d$g <- factor(d$g); d$weight <- if (is.null(weights)) 1 else d[[weights]]
  if (grepl("|", form, fixed = TRUE)) {
    f <- clmm(as.formula(form), d, weights = weight, nAGQ = nAGQ, control = ctrl, Hess = TRUE)
    Psi <- VarCorr(f)$g
    list(coef = as.list(c(f$alpha, f$beta)), vcov = unname(vcov(f)), loglik = as.numeric(logLik(f)),
         sd = unname(attr(Psi, "stddev")), cor = unname(attr(Psi, "correlation")))
  } else {
    f <- clm(as.formula(form), data = d, weights = weight)
    new <- data.frame(x = c(1, 4), arm = c("a", "b"))
    p <- predict(f, new, se.fit = TRUE)
    list(coef = as.list(coef(f)), vcov = unname(vcov(f)), loglik = as.numeric(logLik(f)), fit = unname(p$fit), se = unname(p$se.fit))
  }
}
each <- function(form, ...) lapply(tables, function(d) one(form, d, ...))
write_json(list(
  fixed = each("rating ~ x + arm"), laplace = each("rating ~ x + arm + (1 | g)"),
  quadrature = each("rating ~ x + arm + (1 | g)", nAGQ = 10), slopes = each("rating ~ x + arm + (1 + x | g)"),
  weighted = each("rating ~ x + arm + (1 | g)", weights = "w"),
  session = list(R = R.version.string, ordinal = as.character(packageVersion("ordinal")))),
  "ordinal_fits.json", auto_unbox = TRUE, digits = 12, pretty = TRUE)
