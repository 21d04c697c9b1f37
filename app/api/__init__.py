"""The REST interface: parse, call one domain function, shape the response."""
