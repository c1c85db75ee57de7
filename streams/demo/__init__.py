"""`tideline demo`: all of Tideline on one machine, fed with a year of real orders."""
