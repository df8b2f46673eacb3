# What mice imputes of clinics.csv, in its long format, and what it pools: Rscript make_reference.R (seconds).
library(mice)
library(jsonlite)
data <- read.csv("clinics.csv", na.strings = "")
data$grade <- factor(data$grade, c("low", "mid", "high"), ordered = TRUE)
data$kind <- factor(data$kind, c("c", "a", "b"))
data$sex <- factor(data$sex)
imp <- mice(data, m = 3, maxit = 3, seed = 1, printFlag = FALSE)
write.csv(complete(imp, "long", include = TRUE), "mice_long.csv", row.names = FALSE, na = "")
pooled <- summary(pool(with(imp, lm(y ~ z + sex))))
write_json(list(
  session = c(R.version.string, paste("mice", packageVersion("mice"))),
  term = as.character(pooled$term), estimate = pooled$estimate, std.error = pooled$std.error, df = pooled$df
), "mice_pooled.json", digits = 12, auto_unbox = TRUE)
