# Frozen posterior summaries from pan and jomo.   Rscript make_reference.R   (9 minutes on two cores)
# Writes pan_case1.json, pan_case2.json, pan_case3.json, jomo_case1.json next to this file.
suppressMessages({library(pan); library(jomo); library(jsonlite); library(parallel)})
options(digits = 10)
args <- commandArgs(FALSE)
here <- dirname(normalizePath(sub("--file=", "", grep("--file=", args, value = TRUE))))
only <- commandArgs(TRUE)                        # e.g. "pan_case2": that file only
cores <- 2
probs <- c(.025, .25, .5, .75, .975)

read_case <- function(k, p, q) {
  d <- read.csv(file.path(here, sprintf("case%d.csv", k)))
  stopifnot(!is.unsorted(d$cluster))             # pan wants the rows of a cluster together, in order of the label
  Y <- as.matrix(d[, grep("^y", names(d)), drop = FALSE])
  list(Y = Y, X = cbind(rep(1, nrow(d)), d$x)[, 1:p, drop = FALSE], cluster = d$cluster + 1, p = p, q = q, r = ncol(Y))
}

# names of the saved quantities, zero-based: beta[l,k]; Sigma[k,k']; Psi[s,t] with s = k q + l (vec: z fast, y slow)
pairs <- function(d) which(upper.tri(diag(d), diag = TRUE), arr.ind = TRUE)
labels <- function(p, q, r) {
  ij <- function(name, i, j) sprintf("%s[%d,%d]", name, i - 1, j - 1)
  S <- pairs(r); P <- pairs(r * q)
  c(ij("beta", rep(1:p, r), rep(1:r, each = p)), ij("Sigma", S[, 1], S[, 2]), ij("Psi", P[, 1], P[, 2]))
}
flatten <- function(beta, sigma, psi) {          # arrays with iterations last -> iterations x parameters
  it <- dim(beta)[3]; r <- dim(sigma)[1]; d <- dim(psi)[1]
  t(rbind(matrix(beta, ncol = it), matrix(sigma, ncol = it)[which(upper.tri(diag(r), TRUE)), , drop = FALSE],
          matrix(psi, ncol = it)[which(upper.tri(diag(d), TRUE)), , drop = FALSE]))
}
functionals <- function(x) {                     # log sd and correlations: light tails, so reliable Monte Carlo errors
  out <- list()
  for (name in c("Sigma", "Psi")) {
    d <- 0; while (sprintf("%s[%d,%d]", name, d, d) %in% colnames(x)) d <- d + 1
    v <- function(i, j) x[, sprintf("%s[%d,%d]", name, i, j)]
    for (i in seq_len(d) - 1) {
      out[[sprintf("log_sd_%s[%d]", name, i)]] <- log(v(i, i)) / 2
      for (j in seq_len(d) - 1) if (i < j)
        out[[sprintf("corr_%s[%d,%d]", name, i, j)]] <- v(i, j) / sqrt(v(i, i) * v(j, j))
    }
  }
  cbind(x, do.call(cbind, out))
}
# imputed values of one completed table: mean and sd over the missing cells of variable k in cluster i
imputed <- function(D, full) {
  out <- numeric()
  for (k in seq_len(D$r)) {
    miss <- is.na(D$Y[, k]); v <- full[miss, k]; g <- D$cluster[miss]
    n <- tabulate(g, max(D$cluster)); s1 <- rowsum(v, g)[, 1]; i <- which(n > 0); n <- n[i]
    dev <- rowsum((v - (s1 / n)[match(g, i)])^2, g)[, 1]
    a <- s1 / n; names(a) <- sprintf("imputed_mean[%d,%d]", i - 1, k - 1)
    b <- sqrt(dev / (n - 1))[n > 1]; names(b) <- sprintf("imputed_sd[%d,%d]", i[n > 1] - 1, k - 1)
    overall <- c(mean(v), sd(v)); names(overall) <- sprintf(c("imputed_mean[all,%d]", "imputed_sd[all,%d]"), k - 1)
    out <- c(out, a, b, overall)
  }
  out
}

pan_chain <- function(D, prior, seed, burn, blocks, thin) {
  run <- function(seed, iter, ...) pan(D$Y, D$cluster, D$X, 1:D$p, 1:D$q, prior, seed = seed, iter = iter, ...)
  set.seed(seed); seeds <- sample.int(2^31 - 2, blocks + 1)
  f <- run(seeds[blocks + 1], burn)
  par <- imp <- vector("list", blocks)
  for (b in seq_len(blocks)) {
    f <- run(seeds[b], thin, start = f$last)     # pan returns every iteration's parameters, the last iteration's y
    par[[b]] <- flatten(f$beta, f$sigma, f$psi)
    imp[[b]] <- imputed(D, matrix(f$y, ncol = D$r))
  }
  par <- do.call(rbind, par); colnames(par) <- labels(D$p, D$q, D$r)
  list(par = functionals(par), imp = do.call(rbind, imp))
}
jomo_chain <- function(D, seed, burn, blocks, thin) {
  set.seed(seed)
  Y <- as.data.frame(D$Y); X <- as.data.frame(D$X); Z <- X[, 1:D$q, drop = FALSE]; d <- D$r * D$q
  run <- function(n, ...) { invisible(capture.output(f <- jomo1rancon.MCMCchain(
    Y = Y, X = X, Z = Z, clus = data.frame(D$cluster), nburn = n, output = 0, ...))); f }
  full <- function(f) as.matrix(f$finimp[f$finimp$Imputation == 1, 1:D$r]) + 0
  f <- run(burn); n <- burn
  par <- imp <- vector("list", blocks)
  for (b in seq_len(blocks)) {
    f <- run(thin, beta.start = matrix(f$collectbeta[, , n], D$p), l1cov.start = matrix(f$collectomega[, , n], D$r),
             u.start = matrix(f$collectu[, , n], ncol = d), l2cov.start = matrix(f$collectcovu[, , n], d),
             start.imp = full(f))
    n <- thin
    par[[b]] <- flatten(f$collectbeta, f$collectomega, f$collectcovu)
    imp[[b]] <- imputed(D, full(f))
  }
  par <- do.call(rbind, par); colnames(par) <- labels(D$p, D$q, D$r)
  list(par = functionals(par), imp = do.call(rbind, imp))
}

# Summaries over independent chains of equal length; Monte Carlo errors from the spread between the chains.
summarise <- function(chains, part) {
  K <- length(chains); out <- list()
  for (name in colnames(chains[[1]][[part]])) {
    x <- sapply(chains, function(ch) ch[[part]][, name])        # draws x chains
    m <- mean(x); centred <- (x - m)^2
    s <- sqrt(mean(centred)); chain_s <- sqrt(colMeans(centred))
    chain_q <- apply(x, 2, quantile, probs = probs)
    mcse <- sd(colMeans(x)) / sqrt(K)
    out[[name]] <- list(mean = m, mcse_mean = mcse, sd = s, mcse_sd = sd(chain_s) / sqrt(K),
                        q = as.vector(quantile(x, probs)), mcse_q = apply(chain_q, 1, sd) / sqrt(K), ess = (s / mcse)^2)
  }
  out
}

# r = q = 1, X = Z = 1: the exact posterior on a grid of (log psi, log sigma^2), beta integrated out
exact_case3 <- function(D, prior) {
  y <- D$Y[, 1]; ok <- !is.na(y); g <- D$cluster[ok]; y <- y[ok]
  n <- tabulate(g); ybar <- rowsum(y, g)[, 1] / n; ssw <- sum((y - ybar[g])^2); N <- length(y); m <- length(n)
  h <- c(.01, .004); lp <- seq(log(1e-4), log(1e6), by = h[1]); ls <- seq(log(1.5), log(15), by = h[2])
  e <- expand.grid(lp = lp, ls = ls); P <- exp(e$lp); S <- exp(e$ls)
  w <- 0; wy <- 0; ld <- 0; q2 <- 0
  for (i in 1:m) { v <- P + S / n[i]; w <- w + 1 / v; wy <- wy + ybar[i] / v; q2 <- q2 + ybar[i]^2 / v; ld <- ld - log(v) / 2 }
  bhat <- wy / w
  # log p(y | psi, s2) + IW priors (in one dimension IW(nu, v) = InvGamma(nu/2, 1/(2v))) + Jacobian of the logs
  lpost <- ld - log(w) / 2 - (q2 - wy^2 / w) / 2 - (N - m) / 2 * e$ls - ssw / (2 * S) -
    prior$a / 2 * e$ls - prior$Binv / (2 * S) - prior$c / 2 * e$lp - prior$Dinv / (2 * P)
  z <- exp(lpost - max(lpost)); z <- z / sum(z)
  marginal <- function(value, grid, step, f) {
    pr <- rowsum(z, value)[, 1]; grid <- sort(unique(value))
    q <- approx(c(0, cumsum(pr)), c(grid - step / 2, max(grid) + step / 2), probs, ties = "ordered")$y
    mean <- sum(pr * f(grid)); list(mean = mean, sd = sqrt(sum(pr * (f(grid) - mean)^2)), q = f(q))
  }
  bm <- sum(z * bhat); bs <- sqrt(sum(z / w) + sum(z * (bhat - bm)^2))
  bq <- sapply(probs, function(p) uniroot(function(t) sum(z * pnorm(t, bhat, sqrt(1 / w))) - p, c(-20, 20), tol = 1e-10)$root)
  list("beta[0,0]" = list(mean = bm, sd = bs, q = bq), "Sigma[0,0]" = marginal(e$ls, ls, h[2], exp),
       "Psi[0,0]" = marginal(e$lp, lp, h[1], exp), "log_sd_Sigma[0]" = marginal(e$ls, ls, h[2], function(x) x / 2),
       "log_sd_Psi[0]" = marginal(e$lp, lp, h[1], function(x) x / 2))
}

freeze <- function(name, case, engine, D, prior, chain, chains, burn, blocks, thin, exact = NULL) {
  if (length(only) && !name %in% only) return(invisible())
  began <- proc.time()[["elapsed"]]
  draws <- mclapply(seq_len(chains), function(i) chain(seed = 1000 * case + i, burn, blocks, thin), mc.cores = cores,
                    mc.preschedule = FALSE)        # one process per chain: pan keeps a spare normal between calls
  broken <- Filter(function(x) inherits(x, "try-error") || is.null(x), draws); if (length(broken)) stop(broken[[1]])
  out <- list(engine = engine, data = sprintf("case%d.csv", case), p = D$p, q = D$q, r = D$r,
              clusters = max(D$cluster), prior = prior,
              run = list(chains = chains, burn_in = burn, draws_per_chain = blocks * thin, imputations_per_chain = blocks,
                         iterations_between_imputations = thin, seconds = round(proc.time()[["elapsed"]] - began, 1)),
              probs = probs, parameters = summarise(draws, "par"), imputed = summarise(draws, "imp"))
  if (!is.null(exact)) out$exact <- exact
  out$session <- c(R.version.string, sapply(c("pan", "jomo", "jsonlite"), function(p) paste(p, packageVersion(p))),
                   capture.output(print(sessionInfo())))
  out$session <- unname(out$session)
  write_json(out, file.path(here, paste0(name, ".json")), digits = 10, auto_unbox = TRUE, pretty = TRUE)
  ess <- sapply(out$parameters, `[[`, "ess")
  cat(sprintf("%s: %.0f s; smallest ESS %.0f (%s)\n", name, out$run$seconds, min(ess), names(which.min(ess))))
}
pan_prior <- function(a, Binv, c, Dinv) list(a = a, Binv = Binv, c = c, Dinv = Dinv)
inverse <- function(M) { V <- solve(M); round((V + t(V)) / 2, 12) }
stored <- function(prior) with(prior, list(    # K&K's IW(nu, V): V = scale^-1
  Sigma = list(nu = a, V = inverse(Binv), scale = Binv), Psi = list(nu = c, V = inverse(Dinv), scale = Dinv), beta = "flat"))
run_pan <- function(name, case, D, prior, ...)
  freeze(name, case, "pan", D, stored(prior), function(...) pan_chain(D, prior, ...), ...)

D <- read_case(1, p = 2, q = 1)
run_pan("pan_case1", 1, D, pan_prior(2, diag(2), 2, diag(2)), chains = 40, burn = 2000, blocks = 1000, thin = 20)
jomo_prior <- list(Sigma = list(nu = -1, V = diag(2), scale = diag(2)), Psi = list(nu = 2, V = diag(2), scale = diag(2)), beta = "flat")
freeze("jomo_case1", 1, "jomo", D, jomo_prior, function(...) jomo_chain(D, ...), chains = 20, burn = 500, blocks = 200, thin = 25)

D <- read_case(2, p = 2, q = 2)
B <- matrix(c(3, 1, .5, 1, 4, -1, .5, -1, 2), 3)
s <- c(1, .6, .9, .5, .8, .7); V2 <- 2 * .3^abs(outer(1:6, 1:6, "-")) * outer(s, s)
run_pan("pan_case2", 2, D, pan_prior(5, B, 8, V2), chains = 40, burn = 2000, blocks = 1000, thin = 20)

D <- read_case(3, p = 1, q = 1)
pr <- pan_prior(1, diag(1), 1, diag(1))
run_pan("pan_case3", 3, D, pr, chains = 40, burn = 2000, blocks = 1000, thin = 50,
        exact = exact_case3(D, list(a = 1, Binv = 1, c = 1, Dinv = 1)))
