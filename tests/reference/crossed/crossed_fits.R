# Fits of simulated tables with several grouping factors by lme4, frozen in crossed_fits.json.
# Run in this folder: Rscript crossed_fits.R. The tables (*.csv) are simulated here.
suppressMessages({library(lme4); library(jsonlite)})
effects <- function(codes, sd) rnorm(max(codes), 0, sd)[codes]

nested <- function() {  # pupils in classes in schools, unbalanced; ids of classes start again in each school
  set.seed(11)
  classes <- rep(1:5, 8)[1:24] %% 4 + 1
  school <- rep(seq_along(classes), classes); class <- sequence(classes)
  size <- 3 + rpois(length(school), 6)
  d <- data.frame(school = rep(school, size), class = rep(class, size))
  cell <- as.integer(interaction(d$school, d$class, drop = TRUE))
  d$x <- round(rnorm(nrow(d), 0.2 * (cell %% 3)), 4)
  d$y <- round(1 + 0.5 * d$x + effects(d$school, 0.7) + effects(d$school, 0.4) * d$x + effects(cell, 0.5) + rnorm(nrow(d)), 4)
  d[sample(nrow(d)), ]
}
crossed <- function() {  # subjects answer a random half of the items
  set.seed(12)
  d <- expand.grid(subject = 1:40, item = 1:15)
  d <- d[sample(nrow(d), 330), ]
  d$x <- round(rnorm(nrow(d)), 4); d$t <- round(runif(nrow(d)), 4)
  d$y <- round(2 - 0.3 * d$x + 0.6 * d$t + effects(d$subject, 0.8) + effects(d$subject, 0.5) * d$x +
               effects(d$item, 0.6) + effects(d$item, 0.5) * d$x + rnorm(nrow(d)), 4)
  d
}
moves <- function() {  # pupils who change schools in districts: neither nested nor fully crossed, and years
  set.seed(13)
  pupil <- rep(1:90, each = 4); year <- rep(1:4, 90)
  home <- sample(12, 90, TRUE)[pupil]
  school <- ifelse(runif(360) < 0.25, (home %% 12) + 1, home)
  d <- data.frame(pupil, year, school, x = round(rnorm(360), 4))
  d$y <- round(0.4 * d$x + effects(pupil, 0.9) + effects(school, 0.5) + effects(year, 0.3) + rnorm(360), 4)
  d[sample(360), ]
}
flat <- function() {  # classes without differences of their own: a variance of zero
  set.seed(15)
  d <- data.frame(school = rep(1:20, each = 12), class = rep(rep(1:3, each = 4), 20), x = round(rnorm(240), 4))
  d$y <- round(1 + 0.5 * d$x + effects(d$school, 0.8) + rnorm(240), 4)
  d
}
tables <- list(nested = nested(), crossed = crossed(), moves = moves(), flat = flat())
forms <- list(
  nested = c("y ~ x + (1 | school/class)", "y ~ x + (1 + x | school) + (1 | school:class)"),
  crossed = c("y ~ x + t + (1 | subject) + (1 | item)", "y ~ x + t + (1 + x | subject) + (1 + x | item)",
              "y ~ x + t + (1 + x || subject) + (1 | item) + (0 + x | item)"),
  moves = c("y ~ x + (1 | pupil) + (1 | school) + (1 | year)"),
  flat = c("y ~ x + (1 | school) + (1 | school:class)"))
control <- list(
  lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9, maxfun = 1e5)),
  lmerControl(optimizer = "nloptwrap", optCtrl = list(ftol_abs = 1e-12, xtol_abs = 1e-10, maxeval = 1e5)),
  lmerControl(optimizer = "Nelder_Mead", optCtrl = list(maxfun = 1e5)))
out <- list()
for (data in names(tables)) {
  d <- tables[[data]]
  write.csv(d, paste0(data, ".csv"), row.names = FALSE, quote = FALSE)
  for (form in forms[[data]]) for (reml in c(TRUE, FALSE)) {
    fits <- lapply(control, function(o) suppressMessages(suppressWarnings(
      lmer(as.formula(form), d, REML = reml, control = o))))
    f <- fits[[which.max(sapply(fits, logLik))]]
    v <- as.data.frame(VarCorr(f))
    out[[length(out) + 1]] <- list(data = data, formula = form, reml = reml, beta = unname(fixef(f)),
      cov = unname(as.matrix(vcov(f))), criterion = -2 * as.numeric(logLik(f)), singular = isSingular(f),
      df = df.residual(f), group = v$grp, one = v$var1, two = v$var2, sdcor = v$sdcor)
  }
}
session <- list(R = R.version.string, lme4 = as.character(packageVersion("lme4")),
                note = "best of bobyqa, nloptwrap and Nelder_Mead with tight tolerances, by log-likelihood")
write_json(list(session = session, fits = out), "crossed_fits.json", auto_unbox = TRUE, digits = 12, na = "null")
