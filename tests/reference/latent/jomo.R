# Posterior of the joint model on latent normals by R jomo: Rscript tests/reference/latent/jomo.R DRAWS SEED
# writes jomo.json next to mixed.csv: means, and their Monte Carlo standard errors from 50 batches, of beta, omega and covu.
# y, then b (event first, so that the reference is 0), then c (reference 3); default priors.
library(jomo)
args <- commandArgs(trailingOnly = TRUE)
draws <- as.integer(args[1])
here <- dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE)))
d <- read.csv(file.path(here, "mixed.csv"))
Y <- data.frame(y = d$y, b = factor(d$b, levels = c(1, 0)), c = factor(d$c))
set.seed(as.integer(args[2]))
seconds <- system.time(f <- jomo.MCMCchain(Y, clus = d$g, nburn = draws + 2000, output = 0))[["user.self"]]
batches <- function(x) {
  x <- x[-(1:2000)]
  means <- colMeans(matrix(x[1:(50 * (length(x) %/% 50))], ncol = 50))
  c(mean(means), sd(means) / sqrt(50))
}
out <- list()
names <- c("y", "b", "c1", "c2")
for (k in 1:4) out[[paste0("beta[", names[k], "]")]] <- batches(f$collectbeta[1, k, ])
for (k in 1:4) for (l in 1:k) {
  pair <- paste0(names[k], ",", names[l], "]")
  if (sd(f$collectomega[k, l, ]) > 0) out[[paste0("Sigma[", pair)]] <- batches(f$collectomega[k, l, ])
  out[[paste0("Psi[", pair)]] <- batches(f$collectcovu[k, l, ])
}
text <- paste0('  "', names(out), '": [', sapply(out, function(x) paste(signif(x, 8), collapse = ", ")), "]", collapse = ",\n")
about <- sprintf('  "about": "jomo %s, R %s.%s, %d draws, seed %s, %.0f s"', packageVersion("jomo"), R.version$major,
                 R.version$minor, draws, args[2], seconds)
writeLines(c("{", paste0(about, ","), text, "}"), file.path(here, "jomo.json"))
