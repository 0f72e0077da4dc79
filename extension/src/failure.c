#include "failure.h"

#include <stdarg.h>
#include <stdio.h>

void fail(struct failure *failure, const char *format, ...) {
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(failure->text, sizeof failure->text, format, arguments); // cuts what is too long
	va_end(arguments);
}
