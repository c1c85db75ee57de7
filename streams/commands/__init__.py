"""The commands of `tideline`, one module each. They parse, call, print; they decide nothing."""
