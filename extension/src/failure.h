// What went wrong, as text for the user: every function that can fail fills one of these and returns false or NULL.
#ifndef SKIPML_FAILURE_H
#define SKIPML_FAILURE_H

struct failure {
	char text[512];
};

__attribute__((format(printf, 2, 3))) void fail(struct failure *failure, const char *format, ...);

#endif
