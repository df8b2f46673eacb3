# The binary variable of mixed.csv alone by R jomo: Rscript tests/reference/latent/jomo_binary.R writes jomo_binary.json.
library(jomo)
here <- dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE)))
d <- read.csv(file.path(here, "mixed.csv"))
set.seed(2)
f <- jomo.MCMCchain(data.frame(b = factor(d$b, levels = c(1, 0))), clus = d$g, nburn = 60000, output = 0)
batches <- function(x) {
  x <- x[-(1:2000)]
  means <- colMeans(matrix(x[1:(50 * (length(x) %/% 50))], ncol = 50))
  signif(c(mean(means), sd(means) / sqrt(50)), 8)
}
writeLines(sprintf('{"about": "jomo %s, 58000 draws, seed 2", "beta": [%s], "Psi": [%s]}', packageVersion("jomo"),
                   paste(batches(f$collectbeta[1, 1, ]), collapse = ", "),
                   paste(batches(f$collectcovu[1, 1, ]), collapse = ", ")), file.path(here, "jomo_binary.json"))
