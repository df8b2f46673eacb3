# Frozen output of FCS in R.   Rscript make_reference.R [name ...]   Writes NAME.json next to this file.
# One chain an imputation, so imputations are independent: the Monte Carlo error of a mean over them is sd / sqrt(m).
suppressMessages({library(mice); library(pan); library(lme4); library(jsonlite); library(parallel)})
args <- commandArgs(FALSE)
here <- dirname(normalizePath(sub("--file=", "", grep("--file=", args, value = TRUE))))
only <- commandArgs(TRUE)
read_data <- function(name) read.csv(file.path(here, paste0(name, ".csv")))

# ---- MICE-IW: mice 2l.pan --------------------------------------------------------------------------------------------
# types: variable -> named codes of its predictors (1 fixed, 2 fixed and random, 3 fixed and cluster mean)
mice_pan <- function(d, types, m, maxit, paniter, seed) {
  P <- matrix(0, ncol(d), ncol(d), dimnames = list(names(d), names(d)))
  for (k in names(types)) { P[k, names(types[[k]])] <- types[[k]]; P[k, "study"] <- -2 }
  method <- setNames(ifelse(names(d) %in% names(types), "2l.pan", ""), names(d))
  f <- mice(d, m = m, maxit = maxit, method = method, predictorMatrix = P, paniter = paniter, seed = seed, printFlag = FALSE)
  stopifnot(is.null(f$loggedEvents))                       # nothing dropped on the quiet
  complete(f, "all")
}

# ---- MICE-ML (Kunkel & Kaizar 2.3.1): y = X beta + b_i + e, e ~ N(0, s), b ~ N(0, p) ----------------------------------
# ML fit to the observed rows; beta* ~ N(beta, Var); (s, p)* ~ N(ML, Fisher^-1) until both are positive;
# b | y in studies with observed values, b ~ N(0, p*) in the others.
ml_step <- function(y, X, study) {
  ok <- !is.na(y); g <- factor(study[ok]); Xo <- X[ok, , drop = FALSE]; n <- as.vector(table(g))
  fit <- suppressMessages(lmer(yo ~ 0 + Xo + (1 | g), data = list(yo = y[ok], Xo = Xo, g = g), REML = FALSE))
  s <- sigma(fit)^2; p <- VarCorr(fit)$g[1]
  v <- s + n * p                                           # V_i = s I + p J: eigenvalues s (n - 1 times) and v
  I <- matrix(c(sum((n - 1) / s^2 + 1 / v^2), sum(n / v^2), sum(n / v^2), sum(n^2 / v^2)), 2) / 2
  repeat { star <- c(s, p) + t(chol(solve(I))) %*% rnorm(2); if (all(star > 0)) break }
  beta <- fixef(fit) + t(chol(as.matrix(vcov(fit)))) %*% rnorm(ncol(X))
  s <- star[1]; p <- star[2]
  sum_r <- tapply(y[ok] - Xo %*% beta, factor(study[ok], unique(study)), sum); sum_r[is.na(sum_r)] <- 0
  n <- table(factor(study[ok], unique(study)))
  b <- p * sum_r / (s + n * p) + sqrt(p * s / (s + n * p)) * rnorm(length(n))
  y[!ok] <- (X %*% beta)[!ok] + b[match(study[!ok], unique(study))] + sqrt(s) * rnorm(sum(!ok))
  y
}
mice_ml <- function(d, formulas, m, maxit, seed) {
  set.seed(seed)
  lapply(seq_len(m), function(i) {
    full <- d
    for (k in names(formulas)) full[is.na(d[[k]]), k] <- sample(na.omit(d[[k]]), sum(is.na(d[[k]])), TRUE)
    for (cycle in seq_len(maxit)) for (k in names(formulas))
      full[[k]] <- ml_step(d[[k]], model.matrix(formulas[[k]], full), d$study)
    full
  })
}

# ---- joint model: pan ------------------------------------------------------------------------------------------------
joint_pan <- function(d, m, iterations, seed) {
  set.seed(seed); seeds <- sample.int(2^31 - 2, m)
  ys <- grep("^y", names(d), value = TRUE); r <- length(ys)
  prior <- list(a = r, Binv = diag(r), c = r, Dinv = diag(r))
  lapply(seeds, function(s) {
    d[ys] <- as.data.frame(pan(as.matrix(d[ys]), d$study, matrix(1, nrow(d)), 1, 1, prior, seed = s, iter = iterations)$y); d })
}

# ---- what is kept of the completed tables ------------------------------------------------------------------------------
rubin <- function(q, u = NULL) {
  m <- length(q); B <- var(q)
  out <- list(estimate = mean(q), mcse = sqrt(B / m), B = B)
  if (!is.null(u)) { out$U <- mean(u); out$T <- out$U + (1 + 1 / m) * B }
  out
}
kept <- function(q, u = NULL) c(list(pooled = rubin(q, u)), if (is.null(u)) list(estimates = signif(q, 6)) else
                                list(estimates = signif(q, 6), variances = signif(u, 6)))
analyse <- function(tables, formula) {
  fits <- lapply(tables, function(d) suppressMessages(lmer(formula, d)))       # REML
  B <- sapply(fits, fixef); U <- sapply(fits, function(f) diag(as.matrix(vcov(f))))
  out <- sapply(rownames(B), function(k) kept(B[k, ], U[k, ]), simplify = FALSE)
  sds <- sapply(fits, function(f) { v <- as.data.frame(VarCorr(f)); v <- v[is.na(v$var2), ]
    setNames(v$sdcor, sprintf("sd[%s]", ifelse(is.na(v$var1), "residual", v$var1))) })
  c(out, sapply(rownames(sds), function(k) kept(sds[k, ]), simplify = FALSE))
}
moments <- function(tables, ys) {                          # of rows, studies ignored: U = s^2 / N and 2 s^4 / (N - 1)
  N <- nrow(tables[[1]])
  one <- function(f, u) sapply(ys, function(k) { v <- sapply(tables, function(d) var(d[[k]]))
    kept(sapply(tables, function(d) f(d[[k]])), u(v)) }, simplify = FALSE)
  list(mean = one(mean, function(v) v / N), variance = one(var, function(v) 2 * v^2 / (N - 1)))
}
summarise <- function(x) {                                 # over imputations, which are independent
  m <- length(x); s <- sd(x); m4 <- mean((x - mean(x))^4)
  list(mean = mean(x), mcse_mean = s / sqrt(m), sd = s, mcse_sd = sqrt((m4 - s^4) / m) / (2 * s))
}
imputed <- function(d, tables, ys) {                       # by wholly missing study; and over all the other missing cells
  out <- list()
  for (k in ys) {
    miss <- is.na(d[[k]]); whole <- tapply(miss, d$study, all); whole <- names(whole)[whole]
    rows <- c(lapply(setNames(whole, whole), function(i) which(miss & d$study == i)), list(sporadic = which(miss & !d$study %in% whole)))
    for (i in names(rows)) {
      v <- sapply(tables, function(t) t[[k]][rows[[i]]])
      out[[sprintf("imputed_mean[%s,%s]", k, i)]] <- summarise(colMeans(v))
      out[[sprintf("imputed_sd[%s,%s]", k, i)]] <- summarise(apply(v, 2, sd))
    }
  }
  out
}

freeze <- function(name, data, engine, settings, formulas, run) {
  if (length(only) && !name %in% only) return(invisible())
  job <- mcparallel({                                      # own process: pan keeps a spare normal draw between calls
    d <- read_data(data); ys <- names(d)[colSums(is.na(d)) > 0]
    time <- system.time(tables <- do.call(run, c(list(d), settings)))
    list(engine = engine, data = paste0(data, ".csv"), settings = settings, seconds = round(time[["elapsed"]], 1),
         cpu_seconds = round(time[["user.self"]] + time[["sys.self"]], 1),
         analyses = sapply(formulas, function(f) analyse(tables, as.formula(f)), simplify = FALSE),
         moments = moments(tables, ys), imputed = imputed(d, tables, ys))
  })
  out <- mccollect(job)[[1]]
  if (inherits(out, "try-error")) stop(out)
  versions <- sapply(c("mice", "pan", "lme4", "jsonlite"), function(p) paste(p, packageVersion(p)))
  out$session <- unname(c(R.version.string, versions))
  text <- toJSON(out, digits = 10, auto_unbox = TRUE, pretty = 1)
  text <- gsub("\\s+(?=[-0-9][-+.e0-9]*(,|\\s+\\])|\\])", " ", text, perl = TRUE)   # an array of numbers on one line
  writeLines(text, file.path(here, paste0(name, ".json")))
  cat(sprintf("%s: %.0f s\n", name, out$seconds))
}

three <- c("y3 ~ y1 + y2 + (1 | study)", "y1 ~ y2 + x + (1 | study)")
plain <- list(y1 = c(y2 = 1, y3 = 1, x = 1), y2 = c(y1 = 1, y3 = 1, x = 1))
means <- list(y1 = c(y2 = 3, y3 = 3, x = 1), y2 = c(y1 = 3, y3 = 3, x = 1))
slope <- list(y1 = c(y2 = 1, z = 2), y2 = c(y1 = 1, z = 2))
fcs <- function(types, seed, m = 200, maxit = 20, paniter = 500)
  list(types = lapply(types, as.list), m = m, maxit = maxit, paniter = paniter, seed = seed)
run_mice <- function(d, types, ...) mice_pan(d, lapply(types, unlist), ...)
run_ml <- function(d, formulas, ...) mice_ml(d, lapply(formulas, as.formula), ...)

freeze("onestep_pan", "onestep", "mice 2l.pan", fcs(plain["y1"], 11, m = 1000, maxit = 1, paniter = 1000), three, run_mice)
freeze("onestep_pan_means", "onestep", "mice 2l.pan", fcs(means["y1"], 12, m = 400, maxit = 1, paniter = 1000), three, run_mice)
freeze("onestep_slopes_pan", "onestep_slopes", "mice 2l.pan", fcs(slope["y1"], 13, m = 400, maxit = 1, paniter = 1000),
       "y1 ~ y2 + z + (1 + z | study)", run_mice)
freeze("intercepts_pan", "intercepts", "mice 2l.pan", fcs(plain, 21, maxit = 25), three, run_mice)
freeze("intercepts_pan_means", "intercepts", "mice 2l.pan", fcs(means, 22), three, run_mice)
freeze("intercepts_ml", "intercepts", "MICE-ML by lme4", list(formulas = list(y1 = "~ y2 + y3 + x", y2 = "~ y1 + y3 + x"),
       m = 200, maxit = 20, seed = 23), three, run_ml)
freeze("slopes_pan", "slopes", "mice 2l.pan", fcs(slope, 31), "y1 ~ y2 + z + (1 + z | study)", run_mice)
freeze("balanced_pan_means", "balanced", "mice 2l.pan", fcs(list(y1 = c(y2 = 3), y2 = c(y1 = 3)), 41),
       "y1 ~ y2 + (1 | study)", run_mice)
freeze("balanced_pan_joint", "balanced", "pan", list(m = 200, iterations = 3000, seed = 42), "y1 ~ y2 + (1 | study)", joint_pan)
