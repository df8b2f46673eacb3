# bayesimp from R: a data.frame with NA and factors is imputed, analysed and pooled in Python, and comes back as a long
# data.frame for mice::as.mids.
#
#     RETICULATE_PYTHON=.venv/bin/python Rscript examples/from_r.R
#
# Packages: reticulate (Debian: r-cran-reticulate); mice for the last step. Tables are passed as text (CSV), so that versions
# of pandas and NumPy need not match the version of reticulate; column types are passed separately.
library(reticulate)

pandas <- import("pandas", convert = FALSE)
bi <- import("bayesimp", convert = FALSE)
files <- import("bayesimp.table.files", convert = FALSE)
path <- import("pathlib", convert = FALSE)$Path

# a data.frame as a pandas table: factors become categories in the order of their levels, ordered or not; NA is missing
to_python <- function(frame) {
  file <- tempfile(fileext = ".csv")
  write.csv(frame, file, row.names = FALSE, na = "", fileEncoding = "UTF-8")
  types <- list()
  for (name in names(frame)) {
    column <- frame[[name]]
    types[[name]] <- if (is.factor(column)) {
      pandas$CategoricalDtype(as.list(levels(column)), ordered = is.ordered(column))
    } else if (is.logical(column)) "boolean" else if (is.integer(column)) "integer"
      else if (is.numeric(column)) "number" else "string"
  }
  files$read_table(path(file), types = do.call(dict, types))
}

# the incomplete and all completed tables, stacked, with .imp and .id and the factors of the data.frame
to_r <- function(imp, frame) {
  file <- tempfile(fileext = ".csv")
  invisible(imp$export(file))
  long <- read.csv(file, na.strings = "", fileEncoding = "UTF-8", check.names = FALSE)
  for (name in names(frame)) {
    column <- frame[[name]]
    if (is.factor(column)) {
      long[[name]] <- factor(as.character(long[[name]]), levels(column), ordered = is.ordered(column))
    } else if (is.logical(column)) long[[name]] <- as.logical(long[[name]])
      else if (is.character(column)) long[[name]] <- as.character(long[[name]])
  }
  long
}

# a pooled table from Python as a data.frame
pooled <- function(fits) {
  file <- tempfile(fileext = ".csv")
  invisible(fits$pool()$to_frame()$to_csv(file, index = FALSE))
  read.csv(file, check.names = FALSE)
}

set.seed(1)
n <- 200
pupils <- data.frame(school = sprintf("s%02d", rep(1:20, each = 10)), gender = factor(sample(c("girl", "boy"), n, TRUE)))
pupils$course <- rnorm(n, 70, 10)
pupils$written <- 20 + 0.5 * pupils$course + rep(rnorm(20, 0, 4), each = 10) + rnorm(n, 0, 6)
pupils$grade <- cut(pupils$written + rnorm(n, 0, 4), c(-Inf, 50, 58, Inf), c("low", "middle", "high"), ordered_result = TRUE)
for (name in c("course", "written", "grade")) pupils[[name]][runif(n) < 0.15] <- NA

imp <- bi$impute(to_python(pupils), cluster = "school", m = 5L, seed = 1L, show = FALSE)
print(pooled(imp$analyse("written ~ course + gender + (1 | school)")), digits = 3)

long <- to_r(imp, pupils)
stopifnot(identical(levels(long$grade), levels(pupils$grade)), !anyNA(long[long$.imp > 0, ]))
if (requireNamespace("mice", quietly = TRUE)) {
  mids <- mice::as.mids(long)
  for (k in 1:5) {
    ours <- long[long$.imp == k, names(pupils)]
    stopifnot(isTRUE(all.equal(mice::complete(mids, k), ours, check.attributes = FALSE)))
  }
  print(summary(mice::pool(with(mids, lm(written ~ course + gender)))), digits = 3)
}
cat("done\n")
