# Which inverse-Wishart priors do pan and jomo really use?  Rscript prior_mapping.R  (about a minute)
#
# If S | rest ~ IW(n + nu, scale = V^-1 + T) with d = nrow(S), then tr((V^-1 + T) S^-1) ~ chi^2 with d (n + nu)
# degrees of freedom, so its mean / d, less the number n of things counted, is nu; its variance is 2 d (n + nu).
#
# pan does not return the random effects, so T is made negligible by a huge scale: with Dinv huge and Sigma small,
# E tr(Dinv Psi^-1) / (r q) = m + c. With Binv huge and Psi small, E tr(Binv Sigma^-1) / r = N - p + a (the flat
# beta takes p). One row has every value missing: pan drops it, so N is the number of the other rows.
# jomo returns beta, u, the residual covariance and the level-2 covariance of every iteration, so T is known.
suppressMessages({library(pan); library(jomo); library(jsonlite)})
random_scale <- function(d) { A <- crossprod(matrix(rnorm(d * (d + 3)), d + 3)); A / mean(diag(A)) }
rows <- list()
report <- function(package, matrix, r, q, expected, t, d, count, what) {
  # batch means for the standard error: 40 batches
  b <- colMeans(matrix(t[1:(40 * (length(t) %/% 40))], ncol = 40)) / d
  row <- list(package = package, matrix = matrix, r = r, q = q, counted = what, nu_expected = expected,
              nu_found = mean(t) / d - count, mcse = sd(b) / sqrt(40), variance_over_chi2 = var(t) / (2 * mean(t)))
  rows[[length(rows) + 1]] <<- row
  cat(sprintf("%-5s %-6s r=%d q=%d  nu expected %5.1f  found %8.3f (mcse %.3f)  variance / chi2 %.3f\n", package, matrix,
              r, q, expected, row$nu_found, row$mcse, row$variance_over_chi2))
}

pan_check <- function(m, n, r, q, a, c, iter = 40000) {
  set.seed(100 * r + q); N <- m * n; cl <- rep(1:m, each = n)
  Z <- cbind(1, matrix(rnorm(N), N))[, 1:q, drop = FALSE]
  Y <- matrix(rnorm(N * r), N); Y[1, ] <- NA
  B0 <- random_scale(r); D0 <- random_scale(r * q)
  # r = q = 1: pan replaces Dinv by Binv (its line `prior$Dinv <- matrix(prior$Binv, 1, 1)`), so both are the same
  D <- 1e8 * D0; B <- 1e-3 * B0; if (r * q == 1) B <- D <- 1e8 * D0
  if (r * q > 1) {
    f <- pan(Y, cl, Z, 1:q, 1:q, list(a = a, Binv = B, c = c, Dinv = D), seed = 17, iter = iter)
    t <- apply(f$psi, 3, function(S) sum(diag(D %*% solve(S))))
    report("pan", "Psi", r, q, c, t, r * q, m, "clusters")
    D <- 1e-8 * D0; B <- 1e8 * B0
    f <- pan(Y, cl, Z, 1:q, 1:q, list(a = a, Binv = B, c = c, Dinv = D), seed = 18, iter = iter)
    t <- apply(f$sigma, 3, function(S) sum(diag(B %*% solve(S))))
    report("pan", "Sigma", r, q, a, t, r, N - 1 - q, "rows - 1 - p")
  }
}
pan_check(5, 8, 2, 1, 2, 2); pan_check(5, 8, 2, 1, 5, 7); pan_check(8, 8, 3, 1, 3, 3)
pan_check(5, 8, 2, 2, 4, 6); pan_check(6, 8, 3, 2, 5, 8); pan_check(5, 8, 1, 2, 1, 2)

jomo_check <- function(m, n, r, q, s1 = 1, s2 = 1, iter = 20000) {
  set.seed(100 * r + q); N <- m * n; cl <- rep(1:m, each = n)
  Z <- cbind(1, matrix(rnorm(N), N))[, 1:q, drop = FALSE]
  Y <- matrix(rnorm(N * r), N)
  invisible(capture.output(f <- jomo1rancon.MCMCchain(
    Y = as.data.frame(Y), X = as.data.frame(Z), Z = as.data.frame(Z), clus = data.frame(cl), output = 0,
    l1cov.prior = diag(s1, r), l2cov.prior = diag(s2, r * q), nburn = iter)))
  keep <- 501:iter; d <- r * q
  t <- sapply(keep, function(i) {
    u <- matrix(f$collectu[, , i], m, d)
    sum(diag((diag(s2, d) + crossprod(u)) %*% solve(matrix(f$collectcovu[, , i], d, d)))) })
  report("jomo", "Psi", r, q, d, t, d, m, "clusters")
  t <- sapply(keep, function(i) {
    u <- matrix(f$collectu[, , i], m, d); E <- Y - Z %*% matrix(f$collectbeta[, , i], q, r)
    for (k in 1:r) E[, k] <- E[, k] - rowSums(Z * u[cl, (k - 1) * q + 1:q, drop = FALSE])   # z fast, y slow
    sum(diag((diag(s1, r) + crossprod(E)) %*% solve(matrix(f$collectomega[, , i], r, r)))) })
  report("jomo", "Sigma", r, q, -1, t, r, N, "rows")
}
jomo_check(6, 10, 1, 1); jomo_check(6, 10, 1, 1, s2 = 1e6); jomo_check(15, 5, 2, 1); jomo_check(6, 5, 3, 1)
jomo_check(10, 5, 1, 2); jomo_check(8, 6, 2, 2)

# pan, r = q = 1: Dinv is ignored and Binv used instead
set.seed(1); cl <- rep(1:6, each = 20); y <- rnorm(6)[cl] + rnorm(120); y[1] <- NA
psi_median <- function(D) median(pan(y, cl, matrix(1, 120, 1), 1, 1, list(a = 1, Binv = 1, c = 1, Dinv = D),
                                     seed = 3, iter = 20000)$psi)
medians <- c("Dinv = 1" = psi_median(1), "Dinv = 1e6" = psi_median(1e6))
cat("pan, r = q = 1, Binv = 1: posterior median of psi\n"); print(medians)
# pan keeps the spare half of its last pair of normals between calls: the same seed twice gives two chains
twice <- sapply(1:4, function(i) pan(y, cl, matrix(1, 120, 1), 1, 1, list(a = 1, Binv = 1, c = 1, Dinv = 1), seed = 3,
                                     iter = 1)$psi)
cat("pan, the same seed four times in one session:", format(twice), "\n")
# mice 2l.pan hands pan r = 1 and this prior
suppressMessages(library(mice))
src <- paste(deparse(mice.impute.2l.pan), collapse = " ")
cat("mice 2l.pan:", regmatches(gsub("\\s+", " ", src), regexpr("prior <- list\\(.*?\\)\\)\\)\\)", gsub("\\s+", " ", src), perl = TRUE)), "\n")
args <- commandArgs(FALSE); here <- dirname(sub("--file=", "", grep("--file=", args, value = TRUE)))
write_json(list(meaning = "nu_found: degrees of freedom of the prior, IW(nu, V) with density |S|^-(nu+d+1)/2 exp(-tr(V^-1 S^-1)/2)",
                checks = rows, pan_rq1_psi_median = as.list(medians), pan_same_seed_four_times = twice,
                versions = lapply(c(pan = "pan", jomo = "jomo", mice = "mice"), function(p) as.character(packageVersion(p)))),
           file.path(here, "prior_mapping.json"), auto_unbox = TRUE, digits = 6, pretty = TRUE)
