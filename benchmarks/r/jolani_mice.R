# x1 by mice 2l.bin (glmer in every visit), x2 by pmm, on Jolani's design: seconds. Arguments: table, m, maxit, seed.
args <- commandArgs(trailingOnly = TRUE)
suppressPackageStartupMessages(library(mice))
d <- read.csv(args[1])
d$x1 <- factor(d$x1)
pred <- make.predictorMatrix(d)
pred[, "study"] <- 0
pred["x1", "study"] <- -2
meth <- c(study = "", y = "", x1 = "2l.bin", x2 = "pmm")
began <- proc.time()[["elapsed"]]
imp <- suppressWarnings(mice(d, m = as.integer(args[2]), maxit = as.integer(args[3]), method = meth, predictorMatrix = pred,
                             seed = as.integer(args[4]), printFlag = FALSE))
cat(sprintf('{"seconds": %.3f, "mice": "%s"}\n', proc.time()[["elapsed"]] - began, packageVersion("mice")))
