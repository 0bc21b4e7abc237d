"""The tests, as a package of this name: `iab-tcf` installs one beside its own, which would win."""
