# Pooling by mice and mitml of given estimates and of fits to frozen completed tables.
# Run in this folder: Rscript pooling.R    Writes pooling.json, pooling_tables.csv.
# The completed tables are simulated here (their "imputations" are draws around one table; no imputation is run).
suppressMessages({library(mice); library(mitml); library(lme4); library(jsonlite)})
set.seed(7)
scalars <- lapply(1:12, function(j) {
  m <- sample(2:30, 1); Q <- round(rnorm(m, 1, 0.3), 3); U <- round(rgamma(m, 5, 50), 4)
  dfcom <- c(4, 20, 100, 5000, Inf)[1 + j %% 5]
  p <- pool.scalar(Q, U, n = dfcom + 1, k = 1)
  list(Q = Q, U = U, dfcom = if (is.finite(dfcom)) dfcom else "inf", qbar = p$qbar, ubar = p$ubar, b = p$b, t = p$t,
       df = p$df, riv = p$r, fmi = p$fmi, lambda = (1 + 1 / m) * p$b / p$t)
})
m <- 8; n <- 120; g <- rep(1:15, 8); x1 <- rnorm(n); x2 <- rnorm(n); b <- rnorm(15, sd = 0.6)
y <- 1 + 0.4 * x1 + 0.2 * x2 + b[g] + rnorm(n); hole <- runif(n) < 0.3
long <- do.call(rbind, lapply(1:m, function(i)
  data.frame(.imp = i, g = g, x1 = round(ifelse(hole, x1 + rnorm(n, sd = 0.7), x1), 4), x2 = round(x2, 4), y = round(y, 4))))
write.csv(long, "pooling_tables.csv", row.names = FALSE)
tables <- as.mitml.list(split(long[-1], long$.imp))
fit1 <- with(tables, lmer(y ~ x1 + x2 + (1 | g), REML = FALSE)); fit0 <- with(tables, lmer(y ~ 1 + (1 | g), REML = FALSE))
lm1 <- with(tables, lm(y ~ x1 + x2)); lm0 <- with(tables, lm(y ~ 1))
take <- function(test) as.list(test$test[1, ])
both <- function(a, b) list(
  D1 = take(testModels(a, b)), D1_df = take(testModels(a, b, df.com = 100)), D2 = take(testModels(a, b, method = "D2")),
  D2_lrt = take(testModels(a, b, method = "D2", use = "likelihood")), D3 = take(testModels(a, b, method = "D3")))
pooled <- summary(pool(as.mira(lm1)), type = "all", conf.int = TRUE)
estimates <- testEstimates(fit1)$estimates
vcovs <- lapply(fit1, function(f) as.matrix(vcov(f)))
mice_D1 <- as.list(D1(as.mira(lm1), as.mira(lm0))$result[1, ])
write_json(list(scalars = scalars, mixed = both(fit1, fit0), linear = both(lm1, lm0), pooled_lm = pooled,
  pooled_lmer = as.data.frame(estimates), mice_D1_lm = mice_D1,
  # mice's BARNARD-RUBIN-00x cases are formulas, restated in the Python test; here what this version gives for them
  barnard_rubin = list(lambda = c(1, 0.5, 0.2, 1e-2, 1e-3, 1e-4), finite = sapply(c(1, 0.5, 0.2, 1e-2, 1e-3, 1e-4) / 1.1, function(b) mice:::barnard.rubin(10, b, 1, 100)),
                       infinite = sapply(c(1, 0.5, 0.2, 1e-2, 1e-3, 1e-4) / 1.1, function(b) mice:::barnard.rubin(10, b, 1, Inf))),
  session = list(R = R.version.string, mice = as.character(packageVersion("mice")), mitml = as.character(packageVersion("mitml")),
                 lme4 = as.character(packageVersion("lme4")))),
  "pooling.json", auto_unbox = TRUE, digits = 12)
