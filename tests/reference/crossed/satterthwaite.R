# Satterthwaite's degrees of freedom of linear mixed models by lmerTest, frozen in satterthwaite.json. Run in this folder after crossed_fits.R: Rscript satterthwaite.R
suppressMessages({library(lmerTest); library(jsonlite)})
control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9, maxfun = 1e5))
case <- function(file, form, reml = TRUE, L = NULL) {
  f <- lmer(as.formula(form), read.csv(file), REML = reml, control = control)
  out <- list(file = file, formula = form, reml = reml, terms = names(fixef(f)),
              df = unname(coef(summary(f))[, "df"]))
  if (!is.null(L)) {
    joint <- contestMD(f, L)
    one <- contest1D(f, L[1, ])
    out$L <- L; out$F <- joint[["F value"]]; out$denominator <- joint[["DenDF"]]
    out$t <- one[["t value"]]; out$df_one <- one[["df"]]
  }
  out
}
set.seed(21)
g <- rep(1:9, times = c(3, 4, 5, 6, 4, 3, 8, 5, 4))
few <- data.frame(g, w = rep(c(0, 1), 5)[g], x = round(rnorm(length(g)), 4))
few$y <- round(1 + few$w + 0.3 * few$x + rnorm(9, 0, 0.7)[g] + rnorm(9, 0, 0.5)[g] * few$x + rnorm(length(g)), 4)
write.csv(few, "few.csv", row.names = FALSE, quote = FALSE)
L <- rbind(c(0, 1, 1), c(0, 1, 0))
out <- list(
  case("few.csv", "y ~ w + x + (1 | g)", TRUE, L), case("few.csv", "y ~ w + x + (1 | g)", FALSE, L),
  case("../lme4_balanced.csv", "y ~ x1 + x2 + (1 + x1 | g)", TRUE, L),
  case("nested.csv", "y ~ x + (1 | school/class)"), case("nested.csv", "y ~ x + (1 + x | school) + (1 | school:class)"),
  case("crossed.csv", "y ~ x + t + (1 | subject) + (1 | item)", TRUE, L),
  case("crossed.csv", "y ~ x + t + (1 + x | subject) + (1 + x | item)", TRUE, L),
  case("moves.csv", "y ~ x + (1 | pupil) + (1 | school) + (1 | year)"))
session <- list(R = R.version.string, lmerTest = as.character(packageVersion("lmerTest")),
                lme4 = as.character(packageVersion("lme4")))
write_json(list(session = session, fits = out), "satterthwaite.json", auto_unbox = TRUE, digits = 12)
