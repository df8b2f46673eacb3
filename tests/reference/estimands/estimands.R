# Marginal means, contrasts, R2 and ICC of given completed tables, by lme4, lmerTest, pbkrtest, emmeans, performance, mice.
# Run in this folder: Rscript estimands.R    Writes tables.csv, estimands.json.
# The "imputations" are draws around one table; no imputation is run.
suppressMessages({library(lme4); library(lmerTest); library(emmeans); library(mice); library(jsonlite); library(performance)})
set.seed(16)
M <- 4; G <- 18; n <- 216; g <- rep(1:G, each = 12)
arm <- sample(c("a", "b", "c"), n, TRUE, c(0.5, 0.3, 0.2)); sex <- sample(c("F", "M"), n, TRUE, c(0.7, 0.3)); site <- ifelse(g %% 3 == 0, "u", "r")
x <- rnorm(n, 2); u <- rnorm(G, sd = 0.8)
eta <- 0.4 * x - 0.5 * (arm == "b") + 0.7 * (arm == "c") * (sex == "M") + 0.6 * (site == "u") + u[g]
y <- eta + rnorm(n); s <- rbinom(n, 1, plogis(eta - 1)); k <- rpois(n, exp(0.3 * eta - 0.2)); hole <- runif(n) < 0.25
long <- do.call(rbind, lapply(1:M, function(i) data.frame(.imp = i, g = g, arm = arm, sex = sex, site = site,
  x = round(ifelse(hole, x + rnorm(n, sd = 0.6), x), 4), y = round(y, 4), s = s, k = k)))
write.csv(long, "tables.csv", row.names = FALSE)
tables <- split(long, long$.imp)
frame <- function(e, ...) as.data.frame(summary(e, infer = c(TRUE, TRUE), ...))
linear <- lapply(tables, function(d) lmer(y ~ arm * sex + x + site + (1 | g), d))
slopes <- lapply(tables, function(d) lmer(y ~ arm + x + (1 + x | g), d))
logistic <- lapply(tables, function(d) glmer(s ~ arm * sex + x + site + (1 | g), d, family = binomial))
counts <- lapply(tables, function(d) glmer(k ~ arm + x + (1 | g), d, family = poisson))
means <- function(f, d, ...) emmeans(f, "arm", at = list(x = 2), data = d, ...)
each <- function(fits, ...) lapply(1:M, function(i) {
  e <- means(fits[[i]], tables[[i]], ...)
  list(means = frame(e), pairs = frame(pairs(e, reverse = TRUE, adjust = "none")))
})
one <- linear[[1]]; d1 <- tables[[1]]
mvt <- frame(pairs(means(one, d1, lmer.df = "satterthwaite"), reverse = TRUE, adjust = "mvt"))
holm <- frame(pairs(means(one, d1, lmer.df = "satterthwaite"), reverse = TRUE, adjust = "holm"))
pooled <- function(fits) { e <- emmeans(as.mira(fits), "arm", at = list(x = 2), data = d1)
  list(means = frame(e), pairs = frame(pairs(e, reverse = TRUE, adjust = "none"))) }
nakagawa <- function(fits) lapply(fits, function(f) { r <- r2_nakagawa(f); i <- icc(f)
  list(conditional = unname(r$R2_conditional), marginal = unname(r$R2_marginal), icc = i$ICC_adjusted, unadjusted = i$ICC_unadjusted) })
cluster <- function(f, d) { new <- d[c(1, 30, 100), ]
  list(g = new$g, x = new$x, arm = new$arm, sex = new$sex, site = new$site, fit = unname(predict(f, new)), sd = as.data.frame(VarCorr(f))$sdcor) }
write_json(list(
  linear = list(satterthwaite = each(linear, lmer.df = "satterthwaite"), kenward = each(linear, lmer.df = "kenward-roger"),
    proportional = frame(means(one, d1, lmer.df = "satterthwaite", weights = "proportional")),
    site = frame(emmeans(one, "site", at = list(x = 2), data = d1, lmer.df = "satterthwaite")),
    mvt = mvt, holm = holm, pooled = pooled(linear), r2 = nakagawa(linear), cluster = cluster(one, d1)),
  slopes = list(r2 = nakagawa(slopes), satterthwaite = each(slopes, lmer.df = "satterthwaite"), kenward = each(slopes, lmer.df = "kenward-roger")),
  logistic = list(link = each(logistic), response = lapply(1:M, function(i) frame(means(logistic[[i]], tables[[i]]), type = "response")),
    regrid = lapply(1:M, function(i) frame(regrid(means(logistic[[i]], tables[[i]]), "response"))),
    fullgrid = lapply(1:M, function(i) frame(emmeans(logistic[[i]], "arm", at = list(x = 2), data = tables[[i]], regrid = "response"))),
    pooled = pooled(logistic), r2 = nakagawa(logistic), cluster = cluster(logistic[[1]], d1)),
  counts = list(link = each(counts), response = lapply(1:M, function(i) frame(means(counts[[i]], tables[[i]]), type = "response"))),
  session = c(list(R = R.version.string), sapply(c("lme4", "lmerTest", "pbkrtest", "emmeans", "performance", "insight", "mice"), function(p) as.character(packageVersion(p)), simplify = FALSE))),
  "estimands.json", auto_unbox = TRUE, digits = 10)
