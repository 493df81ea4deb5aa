
# Argument: the command.
code=0
/bin/sh -c "$1" || code=$?
exit $code
