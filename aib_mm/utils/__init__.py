"""What knows neither the method nor a host: files, tables, libraries, configs."""
