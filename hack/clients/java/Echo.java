package com.example;

/** What the pods serve to clients that call providers of their own framework. */
public interface Echo {
    /** The address of the provider that answers, "host:port". */
    String address();
}
