# Estimates and covariance matrices of single-level models with a term for every cluster, and without. Rscript stratified.R
d <- read.csv("stratified.csv")
d$f <- factor(d$g)
d$o <- factor(d$ordinal, ordered = TRUE)
out <- function(fit) list(coef = unname(coef(fit)), vcov = unname(vcov(fit)))
control <- glm.control(epsilon = 1e-14, maxit = 100)
fits <- list()
for (family in c("logit", "probit", "poisson")) {
  link <- if (family == "poisson") poisson() else binomial(family)
  y <- if (family == "poisson") d$count else d$binary
  fits[[family]] <- list(
    stratified = out(glm(y ~ 0 + x1 + x2 + f, link, d, control = control)),
    single = out(glm(y ~ x1 + x2, link, d, control = control)))
}
polr <- function(formula) {
  fit <- MASS::polr(formula, d, Hess = TRUE, control = list(reltol = 1e-15))
  list(coef = unname(coef(fit)), zeta = unname(fit$zeta), vcov = unname(vcov(fit)))
}
fits$ordinal <- list(stratified = polr(o ~ x1 + x2 + f), single = polr(o ~ x1 + x2))
fits$versions <- c(R = R.version.string, MASS = as.character(packageVersion("MASS")))
jsonlite::write_json(fits, "stratified.json", digits = 12, auto_unbox = TRUE, matrix = "rowmajor")
